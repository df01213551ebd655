"""The status page: what it shows (`shape`, `collect`), and how (`page`)."""
