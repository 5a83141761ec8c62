#!/usr/bin/env bash
# Train the built-in model: train.sh AUDIO OUTPUT. A run that was broken off goes on.
set -euo pipefail
audio=$1 output=$2
here=$(dirname "$0")

# Huge pages take an eighth off a step on CPUs.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
train() {  # RECIPE [OPTION...]
    codax train --recipe "$here/$1.toml" --output "$output/$1" "${@:2}" \
        --data speech="$audio/train/speech" other="$audio/train/music" \
        other="$audio/train/effects" --validation speech="$audio/held_out/speech" \
        music="$audio/held_out/music" effects="$audio/held_out/effects"
}
train recipe
train finish --from-pretrained "$output/recipe/model"
train polish --from-pretrained "$output/finish/model"
