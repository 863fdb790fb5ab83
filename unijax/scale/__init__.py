"""Meshes of devices: how they are made, and which axis of which array they divide."""
