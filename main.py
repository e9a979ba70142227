"""Run the reference tool's command line: python main.py feature_type=resnet video_paths=video.mp4"""

import sys

from video_features.signals import exit_when_interrupted

if __name__ == "__main__":
    exit_when_interrupted()  # the import below takes a moment
    from video_features.cli.reference import main

    sys.exit(main())
