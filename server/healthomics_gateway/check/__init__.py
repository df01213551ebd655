"""What an operator needs before the port is opened: each step checks one thing."""
