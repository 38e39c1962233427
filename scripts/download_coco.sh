#!/usr/bin/env bash
# Fetches COCO 2017, checks it and puts it where the configs expect it; what is complete is skipped, and a download that
# was interrupted goes on.
#
#   bash scripts/download_coco.sh [--root data/coco] [--only annotations|val|train|test] [--archives FILE]
#
# --only: one part, or several by commas; by default annotations, val and train (test: images of the closed test server).
# --archives: another table like the one below. COCO_MIRROR: another base address, https:// or file://. PYTHON: the
# interpreter with psa_pose for the check at the end (.venv/bin/python).
set -euo pipefail

# The site's own name, images.cocodataset.org, has no valid certificate; this is the store behind it.
base=https://s3.amazonaws.com/images.cocodataset.org
# Part, archive, bytes, MD5 (- where it is not known), what is taken out of it, number of files. COCO publishes no
# checksums: these are what several users of the archives, who do not seem to know of each other, state alike.
archives() {
  cat <<'TABLE'
annotations annotations/annotations_trainval2017.zip 252907541   f4bbac642086de4f52a3fdda2de5fa2c annotations/person_keypoints_*2017.json      2
annotations annotations/image_info_test2017.zip      1144034     85da7065e5e600ebfee8af1edb634eb5 annotations/image_info_test-dev2017.json 1
val         zips/val2017.zip                         815585330   442b8da7639aecaf257c1dceb8ba8c80 val2017/*.jpg                            5000
train       zips/train2017.zip                       19336861798 cced6f7f71b7629ddf16f17bbcfab6b2 train2017/*.jpg                          118287
test        zips/test2017.zip                        6646970404  77ad2c53ac5d0aea611d422c0938fb35 test2017/*.jpg                           40670
TABLE
}

fail() {
  echo "error: $*" >&2
  exit 1
}

absolute() {
  case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$here/data/coco
parts=annotations,val,train
table=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit
      ;;
    --root | --only | --archives) [ $# -gt 1 ] || fail "$1 needs a value" ;;
    *) fail "$1 is no option; see --help" ;;
  esac
  case $1 in
    --root) root=$(absolute "$2") ;;
    --only) parts=$2 ;;
    --archives) table=$(absolute "$2") ;;
  esac
  shift 2
done
for part in ${parts//,/ }; do
  case $part in annotations | val | train | test) ;; *) fail "--only $part is no part; give annotations, val, train or test" ;; esac
done
[ -z "$table" ] || [ -r "$table" ] || fail "the table of archives $table cannot be read"
for tool in curl unzip; do
  command -v $tool >/dev/null || fail "$tool is needed and not there; install it (Debian, Ubuntu: apt install $tool)"
done
base=${COCO_MIRROR:-$base}
cd "$here"
root=${root#"$here/"}

wanted() { # the rows of the chosen parts
  if [ -n "$table" ]; then cat "$table"; else archives; fi | while read -r part row || [ -n "$part" ]; do
    case ,$parts, in *,"$part",*) echo "$row" ;; esac
  done
}

size() {
  if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi
}

md5() {
  if command -v md5sum >/dev/null; then md5sum "$1" | cut -d' ' -f1; else command md5 -q "$1"; fi
}

count() { # files of a pattern folder/name that are in the root
  if [ -d "$root/${1%/*}" ]; then find -L "$root/${1%/*}" -maxdepth 1 -type f -name "${1##*/}" | wc -l | tr -d ' '; else echo 0; fi
}

gigabytes() {
  awk -v b="$1" 'BEGIN { printf "%.1f GB", b / 1e9 }'
}

check_space() { # what is still to be fetched, unpacked, and the largest archive beside it
  local archive bytes sum pattern files total=0 largest=0 free
  while read -r archive bytes sum pattern files; do
    [ "$(count "$pattern")" != "$files" ] || continue
    # Thousands of small files take some more than their bytes.
    total=$((total + bytes + bytes / 20 - $(size "$downloads/${archive##*/}")))
    [ "$bytes" -le "$largest" ] || largest=$bytes
  done
  free=$(($(df -Pk "$root" | awk 'NR == 2 { print $4 }') * 1024))
  [ $((total + largest)) -le "$free" ] ||
    fail "$(gigabytes $((total + largest))) are needed in $root and $(gigabytes "$free") are free; make room, give another --root, or fetch less (--only val)"
}

fetch() { # address, file, bytes
  local attempt status code have
  for attempt in 1 2 3 4 5; do
    have=$(size "$2")
    [ "$have" != "$3" ] || return 0
    [ "$have" = 0 ] || echo "going on after $have of $3 bytes"
    status=0
    code=$(curl "${quiet[@]}" --fail --location --connect-timeout 30 --speed-limit 1000 --speed-time 60 \
      --continue-at - --write-out '%{http_code}' --output "$2" "$1") || status=$?
    case $status,$code in
      # 416: nothing is left to send. Whether it is what it should be, the checksum says.
      0,* | 22,416) return 0 ;;
      # The server cannot begin in the middle of a file.
      33,*) rm -f "$2" && continue ;;
      22,4?? | 37,*) fail "$1 is not there (curl: $status, HTTP $code); COCO_MIRROR names another place to fetch from" ;;
      23,*) fail "$2 cannot be written; is the disk full?" ;;
    esac
    [ "$attempt" = 5 ] || sleep "$attempt"
  done
  fail "$1 gave $(size "$2") of $3 bytes (curl: $status); run this again to go on, or set COCO_MIRROR to another place"
}

check_archive() { # file, bytes, md5
  local wrong= found
  if [ "$3" != - ]; then
    found=$(md5 "$1")
    [ "$found" = "$3" ] || wrong="its MD5 is $found, not $3"
  elif [ "$(size "$1")" != "$2" ]; then
    wrong="it has $(size "$1") bytes, not $2"
  elif ! unzip -tqq "$1" >/dev/null 2>&1; then
    wrong="unzip -t finds errors in it"
  else
    echo "${1##*/}: its size and its parts are right; no checksum is known"
  fi
  [ -n "$wrong" ] || return 0
  rm "$1"
  fail "$1 was damaged ($wrong) and is removed; run this again to fetch it anew, or set COCO_MIRROR to another place"
}

unpack() { # archive, pattern, files: aside, then renamed, so that what has its name is whole
  local folder=${2%/*} found
  unzip -q "$1" "$2" -d "$aside" || fail "$1 cannot be unpacked: it lacks $2, or the disk is full"
  found=$(find "$aside/$folder" -maxdepth 1 -type f -name "${2##*/}" | wc -l | tr -d ' ')
  [ "$found" = "$3" ] || fail "$1 holds $found files of $2, not $3"
  if [ "$folder" = annotations ]; then
    mkdir -p "$root/annotations"
    find "$aside/annotations" -type f | while read -r file; do mv -n "$file" "$root/annotations/"; done
  else
    mv "$aside/$folder" "$root/$folder"
  fi
  rm -rf "$aside"
}

downloads=$root/.download
aside=$root/.unpacking
mkdir -p "$downloads" || fail "$root cannot be written; give another --root"
# A second download into the same folder would spoil the first. Where there is no flock, nobody looks.
exec 9>"$downloads/lock"
! command -v flock >/dev/null || flock -n 9 || fail "another download into $root is running"
trap 'rm -rf "$aside"' EXIT
rm -rf "$aside"
quiet=(--silent --show-error)
[ ! -t 2 ] || quiet=(--progress-bar)

wanted | check_space
while read -r archive bytes sum pattern files; do
  folder=${pattern%/*} have=$(count "$pattern") file=$downloads/${archive##*/}
  if [ "$have" = "$files" ]; then
    echo "$root/$pattern: all $files files are there"
    continue
  fi
  [ "$folder" = annotations ] || [ ! -e "$root/$folder" ] ||
    fail "$root/$folder has $have of $files files and was not made by this script; move it away and run this again"
  echo "$base/$archive: $(gigabytes "$bytes")"
  fetch "$base/$archive" "$file" "$bytes"
  check_archive "$file" "$bytes" "$sum"
  unpack "$file" "$pattern" "$files"
  rm "$file"
  echo "$root/$pattern: $files files"
done < <(wanted)

detections=COCO_val2017_detections_AP_H_56_person.json
words=()
if [ ! -f "$root/person_detection_results/$detections" ]; then
  words=(DATASET.TEST_DETECTIONS "")
  cat <<WORDS

Person boxes: COCO offers none. The published ones, $detections (56.4 person AP) and
COCO_test-dev2017_detections_AP_H_609_person.json (60.9), are linked under "Data preparation" in the README of
https://github.com/leoxiaobin/deep-high-resolution-net.pytorch; they belong in $root/person_detection_results.
Others can be made by tools/detect.py. Without any, networks are tested with annotated boxes alone:
DATASET.TEST_DETECTIONS ""
WORDS
fi
if [ ! -f "$root/annotations/person_keypoints_val2017.json" ] || [ ! -d "$root/val2017" ]; then
  printf '\nnothing to train or test on yet: annotations and val2017 are needed\n'
  exit
fi
if [ ! -d "$root/train2017" ]; then
  words+=(DATASET.TRAIN_IMAGES val2017 DATASET.TRAIN_ANNOTATIONS annotations/person_keypoints_val2017.json)
fi
check=(tools/check_dataset.py --cfg configs/coco/simple_baseline/simple_baseline_r50_256x192.yaml DATASET.ROOT "$root")
[ ${#words[@]} = 0 ] || check+=("${words[@]}")
printf '\npython'
for word in "${check[@]}"; do printf ' %s' "${word:-''}"; done
echo
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || fail "$python is not there: install (bash scripts/test.sh does), then run the command above"
exec "$python" "${check[@]}"
