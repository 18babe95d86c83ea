# Users and databases, at every start: what is not there is made, and passwords become what the Secret says. By hand, as the
# superuser of a server that is there already:
#   PGHOST=… PGUSER=postgres PGPASSWORD=… MLFLOW_PASSWORD=… OPTUNA_PASSWORD=… sh databases.sh
set -eu
: "${MLFLOW_PASSWORD:?}" "${OPTUNA_PASSWORD:?}"
tries=0
# By address: a server that is being made listens at its socket alone, and goes away again.
until pg_isready --quiet --host="${PGHOST:-127.0.0.1}"; do
  tries=$((tries + 1))
  [ "$tries" -le 120 ] || { echo "PostgreSQL does not answer" >&2; exit 1; }
  sleep 1
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set mlflow="$MLFLOW_PASSWORD" --set optuna="$OPTUNA_PASSWORD" \
  --username "${PGUSER:-postgres}" --dbname postgres <<'SQL'
SELECT format('CREATE ROLE %I', name) FROM (VALUES ('mlflow'), ('optuna')) AS wanted (name)
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE mlflow LOGIN PASSWORD :'mlflow';
ALTER ROLE optuna LOGIN PASSWORD :'optuna';
SELECT format('CREATE DATABASE %I OWNER %I', name, name) FROM (VALUES ('mlflow'), ('optuna')) AS wanted (name)
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE mlflow, optuna FROM PUBLIC;
SQL
