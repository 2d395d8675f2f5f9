#!/bin/sh
# Let git run the hooks of .githooks in this checkout, unless its owner has hooks already. It never fails: a tarball, a
# copy inside another repository, a checkout that cannot be written or a machine without git stay as they are.
set -u
top=$(git rev-parse --show-toplevel 2>/dev/null) || exit 0
[ "$(cd "$top" 2>/dev/null && pwd -P)" = "$(pwd -P)" ] || exit 0
git config core.hooksPath >/dev/null && exit 0
own=$(git rev-parse --git-path hooks) || exit 0
for hook in "$own"/*; do
    case $hook in *.sample) ;; *) [ -e "$hook" ] && exit 0 ;; esac
done
git config core.hooksPath .githooks 2>/dev/null &&
    echo "Commits are checked by .githooks from now on (git config --unset core.hooksPath ends that)."
exit 0
