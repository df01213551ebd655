"""Logging: the log and the audit log."""
