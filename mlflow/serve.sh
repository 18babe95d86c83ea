# MLflow's pages on this machine, for `make ui [PORT=5000]`. Settings that differ from MLflow's own, and why:
#
#   --workers 1, no job execution   two processes and 0.5 GB in place of ten and 1.9 GB
#   --host 127.0.0.1                nobody else sees it; a shared server needs accounts, which this one has not
#   no telemetry, no pickle         models here are safetensors and JSON; anything else is refused
#   no warnings, no request log     they tell its makers something, and push the link off the screen

port=${PORT:-5000}
place=${MLFLOW_TRACKING_URI:-sqlite:///$PWD/var/mlflow/mlflow.db}
server=http://127.0.0.1:$port

case $place in
http*)
  python -m ddpm.tracking.ui "$place" "${place%/}" || exit $?
  exit 0
  ;;
sqlite:*)
  if [ ! -f "${place#sqlite:///}" ]; then
    echo "there are no runs in $place yet; make some with: make run" >&2
    exit 2
  fi
  ;;
esac
python -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1]))).close()' "$port" 2>/dev/null || {
  echo "port $port cannot be had; say another: make ui PORT=5001" >&2
  exit 2
}

export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false
export MLFLOW_DISABLE_TELEMETRY=true
python -m ddpm.tracking.ui "$place" "$server" || exit $?
python -m ddpm.tracking.ui "$place" "$server" --open &
export PYTHONWARNINGS=ignore
exec mlflow server --backend-store-uri "$place" --registry-store-uri "$place" --host 127.0.0.1 --port "$port" --workers 1 \
  --uvicorn-opts "--log-level warning"
