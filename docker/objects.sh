# SeaweedFS as the team's object store, with an account for each who uses it. compose.yaml runs it in SeaweedFS's image.
#
# Master, volume server and filer ask nobody who they are: they listen at the loopback address, and only S3 listens outside.
# The accounts' file is written into the container's memory; who may do what is SeaweedFS's ACTION:BUCKET.
set -eu

for secret in "$ADMIN_SECRET" "$MLFLOW_SECRET" "$TEAM_SECRET"; do
  case $secret in
  '' | *[!A-Za-z0-9_+/=.-]*)
    echo "a secret of the object store is empty or holds other characters than letters, digits and _+/=.-; openssl rand -hex 24 makes one" >&2
    exit 2
    ;;
  esac
done

umask 077
cat >/tmp/accounts.json <<EOF
{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "admin", "secretKey": "$ADMIN_SECRET"}],
   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
  {"name": "mlflow", "credentials": [{"accessKey": "mlflow", "secretKey": "$MLFLOW_SECRET"}],
   "actions": ["Read:mlflow", "Write:mlflow", "List:mlflow", "Tagging:mlflow"]},
  {"name": "team", "credentials": [{"accessKey": "team", "secretKey": "$TEAM_SECRET"}],
   "actions": ["Read:ddpm", "Write:ddpm", "List:ddpm", "Tagging:ddpm"]}
]}
EOF

exec weed -logtostderr=true server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
  -master.volumeSizeLimitMB=1024 -volume.max=0 -volume.preStopSeconds=1 -filer.localSocket=/tmp/filer.sock \
  -s3 -s3.ip.bind=0.0.0.0 -s3.config=/tmp/accounts.json -s3.autoCreateBucket=false -s3.allowDeleteBucketNotEmpty=false \
  -s3.port.iceberg=0 -s3.port.lance=0 -s3.localSocket=/tmp/s3.sock
