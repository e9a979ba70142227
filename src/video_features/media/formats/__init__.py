"""Formats that FFmpeg's demuxers do not read whole: animated WebP, pictures of tiles, and WAV files over 4 GB."""
