"""Files in, validated."""
