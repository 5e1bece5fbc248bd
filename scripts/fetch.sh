#!/usr/bin/env bash
# Summary: download one dataset or one set of recordings to a local folder, whole or not at all
# Usage: fetch.sh [OPTION ...] [SOURCE] DEST
#   scripts/fetch.sh datasets/houston_recordings /data/houston
#
#   SOURCE      CONTAINER/PREFIX, https://HOST/CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX;
#               default: AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX. CONTAINER/ is a whole container
#   DEST        the folder; new, empty, or downloaded by fetch.sh before, and then updated
#   --manifest  refuse what publish.sh has not written to its end
#   --if-any    where there is nothing, end well, print nothing and leave DEST alone
#   --unless-converted DATASET  leave out recordings that are in the dataset DATASET, and in Blob as they were then
#   --verify    hash every local file, also those whose size and times have not changed
# Where no Azure credentials are configured, LOCALPATH is copied in place of SOURCE. Variables and secrets.env are
# described in secrets.example.env. Prints the folder on stdout, everything else on stderr.
# Exit status: 0; 2: bad input, fix it; 75: temporary failure, retry; 128 + N: ended by signal N.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
python=$(project_python)
exec "$python" -m ur10e_act.blob.fetch "$@"
