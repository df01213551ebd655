"""The gateway process: its composition, its listeners, and its shutdown."""
