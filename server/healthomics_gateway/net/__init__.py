"""Addresses, hosts, name resolution and proxies."""
