"""The store in a Valkey or Redis server; it needs the extra `shared`."""
