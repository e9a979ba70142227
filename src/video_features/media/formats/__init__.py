"""Sources that FFmpeg does not read, or not whole: image folders and arrays, animations, tiles, and WAV over 4 GB."""
