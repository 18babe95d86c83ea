# An image's environment, from a lock: exact versions, checked against their hashes. docker/Containerfile runs it.
#
#   sh install.sh LOCK
set -eu

if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
export HOME=/tmp/uv # what uv leaves at home would belong to root, where the image's user writes
/build/uv/bin/uv venv --quiet --python python3 .venv
/build/uv/bin/uv pip sync --quiet --no-cache --require-hashes --compile-bytecode --python .venv "$1"
rm -rf /tmp/uv
