"""The settings: their schema, where they are read from, how they are checked."""
