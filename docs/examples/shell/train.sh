#!/bin/sh
# The payload is on standard input. With jq: sha=$(jq -r .repo.headSha)
sha=$(sed -n 's/.*"headSha":"\([0-9a-f]*\)".*/\1/p')
echo "training on $WEBHOOK_REPO_ID at $sha"
