"""The model: layers, rotary positions, interval masks, attention, patch codecs."""
