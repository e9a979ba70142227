#!/bin/bash
# Start a Ray cluster on machines with SSH access, and run one command on it:
#   HOSTS="one two three" docs/cluster/ssh.sh clip --file-with-video-paths videos.txt --output-path /shared/features
# All machines must see this folder with its `.venv`, the videos and the outputs, under the same paths.
set -eu
# The address at which the other machines reach this machine. Set HEAD_IP if this is not its first address.
ip=${HEAD_IP:-$(hostname --all-ip-addresses | awk '{print $1}')}
source .venv/bin/activate
# Newer versions of Ray require a token, which must be the same on all machines.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$PWD/.venv/ray-token
if [ ! -e "$RAY_AUTH_TOKEN_PATH" ]; then
    new=$(mktemp "$RAY_AUTH_TOKEN_PATH-XXXXXX")
    python -c 'import secrets; print(secrets.token_hex())' > "$new"
    ln "$new" "$RAY_AUTH_TOKEN_PATH" || true  # another command created it first
    rm "$new"
fi
there="cd '$PWD' && source .venv/bin/activate && export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='$RAY_AUTH_TOKEN_PATH'"
everywhere() { for host in $HOSTS; do ssh "$host" "$there && $1" & done; wait; }

ray start --head --node-ip-address "$ip" --port=6379 --disable-usage-stats
trap 'everywhere "ray stop"; ray stop' EXIT
everywhere "ray start --address $ip:6379 --disable-usage-stats"
video-features extract "$@" --engine ray --address "$ip:6379"
