"""What tasksd puts into other programs' configuration: hooks and services."""
