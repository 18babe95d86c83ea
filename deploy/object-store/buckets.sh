# The buckets, made at every start where they are not there: one for runs and data sets, one that is MLflow's alone.
set -eu
shell() { echo "$1" | weed shell -master="${MASTER:-127.0.0.1:9333}" -filer="${FILER:-127.0.0.1:8888}"; }
tries=0
for bucket in ddpm mlflow; do
  until shell s3.bucket.list 2>/dev/null | grep -qw "$bucket"; do
    tries=$((tries + 1))
    [ "$tries" -le 120 ] || { echo "SeaweedFS does not answer, or makes no bucket" >&2; exit 1; }
    shell "s3.bucket.create -name $bucket" || true # not up yet
    sleep 1
  done
done
