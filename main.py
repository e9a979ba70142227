"""Run the reference tool's command line: python main.py feature_type=resnet video_paths=video.mp4"""

import sys

from video_features.cli.reference import main

if __name__ == "__main__":
    sys.exit(main())
