"""What the replicas of a gateway share: a store, and each replica's relation to it."""
