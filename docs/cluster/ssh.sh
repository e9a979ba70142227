#!/bin/bash
# A Ray cluster on machines that one reaches by SSH, and one command on it:
#   HOSTS="one two three" docs/cluster/ssh.sh clip --file-with-video-paths videos.txt --output-path /shared/features
# This folder, with its `.venv`, the videos and the outputs have to be seen by all machines under the same paths.
set -eu
address=$(hostname --ip-address | awk '{print $1}'):6379
everywhere() { for host in $HOSTS; do ssh "$host" "cd '$PWD' && source .venv/bin/activate && $1" & done; wait; }
source .venv/bin/activate

ray start --head --port=6379 --disable-usage-stats
trap 'everywhere "ray stop"; ray stop' EXIT
everywhere "ray start --address $address --disable-usage-stats"
video-features extract "$@" --engine ray --address "$address"
