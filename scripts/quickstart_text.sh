#!/usr/bin/env bash
# Real English for the quickstart: scripts/quickstart_text.sh OUT [TEXT_OR_DIR]
# Fills OUT/text/train and OUT/text/heldout (the last twentieth of every file's lines) and writes OUT/text.sum.new, which
# changes when the text does. Without TEXT_OR_DIR the text comes from packages of the distribution, unpacked, not installed.
set -euo pipefail
[ $# -ge 1 ] && [ $# -le 2 ] || { echo "usage: quickstart_text.sh OUT [TEXT_OR_DIR]" >&2; exit 2; }
out=$1 given=${2:-}
minimum=$((1000 * 1000))

from_packages() {   # perl-doc 8.8 MB of manuals, bible-kjv 4.4 MB, fortunes 2.7 MB, jargon 0.7 MB
  local raw=$1 work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  chmod 755 "$work"   # apt's own user writes there
  for package in perl-doc bible-kjv-text bible-kjv libreadline8 libreadline8t64 fortunes fortunes-min jargon-text; do
    (cd "$work" && apt-get download -qq "$package" 2>/dev/null) || true   # names differ between releases; what is missing shows below
  done
  for package in "$work"/*.deb; do
    [ -e "$package" ] || continue
    dpkg-deb -x "$package" "$work/root"
  done
  mkdir -p "$raw"
  if [ -x "$work/root/usr/bin/bible" ]; then
    LD_LIBRARY_PATH=$(dirname "$(find "$work/root" -name 'libreadline.so.8' -print -quit)") \
      "$work/root/usr/bin/bible" -p "$work/root/usr/lib" -l 200 gen1:1-rev22:21 > "$raw/bible.txt" 2>/dev/null || rm -f "$raw/bible.txt"
  fi
  find "$work/root" -name '*.pod' -print0 2>/dev/null | sort -z | xargs -0 -r cat > "$raw/perl-doc.txt"
  find "$work/root/usr/share/games/fortunes" -type f ! -name '*.*' -print0 2>/dev/null | sort -z | xargs -0 -r cat > "$raw/fortunes.txt"
  find "$work/root" -name 'jargon*.gz' -print0 2>/dev/null | sort -z | xargs -0 -r zcat > "$raw/jargon.txt"
  find "$raw" -type f -size -10k -delete
}

if [ -n "$given" ]; then
  source=$given
elif ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  echo "quickstart: this system has no apt to get text with; name a text: ./quickstart.sh FILE_OR_DIR" >&2
  exit 2
else
  source=$out/packages
  if [ ! -e "$source/complete" ]; then
    rm -rf "$source"
    echo "fetching English text from the distribution's packages"
    from_packages "$source"
    touch "$source/complete"
  fi
fi

rm -rf "$out/text"
mkdir -p "$out/text/train" "$out/text/heldout"
count=0
while IFS= read -r -d '' file; do
  lines=$(wc -l < "$file")
  held=$(((lines + 19) / 20))
  [ "$lines" -gt "$held" ] || continue
  count=$((count + 1))
  name=$(printf '%03d-%s' "$count" "$(basename "$file")")
  head -n "$((lines - held))" "$file" > "$out/text/train/$name"
  tail -n "$held" "$file" > "$out/text/heldout/$name"
done < <(find -L "$source" -type f \( -name '*.txt' -o -name '*.jsonl' \) -print0 | sort -z)

bytes=$(cat "$out"/text/train/* 2>/dev/null | wc -c)
if [ "$bytes" -lt "$minimum" ]; then
  echo "quickstart: ${given:-the packages} gave only $bytes bytes of .txt and .jsonl text; at least $minimum are needed." >&2
  [ -n "$given" ] || { rm -rf "$source"; echo "Is a package mirror reachable (apt-get update)? Or name a text: ./quickstart.sh FILE_OR_DIR" >&2; }
  exit 2
fi
echo "$count files, $((bytes / 1000)) kB to train on, $(($(cat "$out"/text/heldout/* | wc -c) / 1000)) kB held out"
cat "$out"/text/train/* | cksum > "$out/text.sum.new"
