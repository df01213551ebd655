"""Several processes that serve as one gateway: a supervisor, a zygote and workers."""
