"""The server's certificates: read, checked and reloaded."""
