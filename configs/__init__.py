"""Config files: base.py lists every knob; each other file is a system or a study."""
