#!/bin/sh
sha=$(sed -n 's/.*"headSha":"\([0-9a-f]*\)".*/\1/p')
if [ -z "$sha" ]; then
	echo "the payload has no headSha"
	exit 1
fi
echo "evaluating $WEBHOOK_REPO_ID at $sha"
