#!/bin/sh
# The name in large letters, a word from the compiled program, and what the image says about itself.
set -eu
figlet "$1"
greeting "$1"
cat /usr/share/greeting/notice
