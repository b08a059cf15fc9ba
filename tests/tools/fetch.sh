#!/usr/bin/env bash
# Fetch other people's programs that some tests run into the folder $1, without root rights:
# Debian packages are unpacked, not installed, so that no service starts; Go modules are built, and
# of some a file is taken as it is.
set -euo pipefail
lists=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/packages" "$1/bin"
target=$(cd "$1" && pwd)

if command -v apt-get >/dev/null; then
  (
    cd "$target/packages"
    xargs apt-get download -qq <"$lists/debian.txt" 2>/dev/null \
      || { apt-get update -qq && xargs apt-get download -qq <"$lists/debian.txt"; }
    for package in *.deb; do dpkg -x "$package" "$target"; done
  )
else
  echo "no apt-get: tests of $(paste -sd' ' "$lists/debian.txt") will use what is on PATH"
fi

if command -v go >/dev/null; then
  while read -r module; do
    GOBIN="$target/bin" GOFLAGS=-mod=mod go install "$module"
  done <"$lists/go.txt"
  mkdir -p "$target/files"
  while read -r module path; do
    folder=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    install -m 644 "$folder/$path" "$target/files/"
  done <"$lists/go-files.txt"
else
  echo "no go: tests of $(paste -sd' ' "$lists/go.txt") will use what is on PATH"
fi
