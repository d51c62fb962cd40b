#!/bin/sh
# Generates generated/messages.{js,d.ts} from the .proto files; run by `npm run build:proto`.
# Two runs: the types are generated from the comments, and the code is parsed faster without them.
set -eu
cd "$(dirname "$0")"
mkdir -p generated
generate() {
  pbjs -t static-module -w esm --es6 --force-long \
    --no-create --no-verify --no-convert --no-delimited --no-typeurl --no-service \
    "$@" -o generated/messages.js api.proto keelson.proto
}
generate --dts
generate --no-comments --lint ""
