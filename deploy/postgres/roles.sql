-- Roles that may do what they must and no more. Run once by a superuser, with the passwords in the environment:
--   DAGSTER_PASSWORD=... VIEWER_PASSWORD=... MLFLOW_PASSWORD=... psql --file deploy/postgres/roles.sql
-- psql 14 or later (\getenv).
\set ON_ERROR_STOP on
\getenv dagster_password DAGSTER_PASSWORD
\getenv viewer_password VIEWER_PASSWORD
\getenv mlflow_password MLFLOW_PASSWORD

-- fleet_dagster: code server, runs, webserver, daemon. Owns its database, so that Dagster can migrate it.
-- fleet_viewer: the read-only webserver. Sees what Dagster wrote, and changes nothing.
-- fleet_mlflow: MLflow's server, in a database of its own.
create role fleet_dagster login password :'dagster_password' nosuperuser nocreatedb nocreaterole;
create role fleet_viewer login password :'viewer_password' nosuperuser nocreatedb nocreaterole;
create role fleet_mlflow login password :'mlflow_password' nosuperuser nocreatedb nocreaterole;
alter role fleet_viewer set default_transaction_read_only = on;

create database dagster owner fleet_dagster;
create database mlflow owner fleet_mlflow;
-- whoever can log in may otherwise connect to every database
revoke connect, temporary on database dagster, mlflow from public;
grant connect on database dagster to fleet_viewer;

\connect dagster
revoke all on schema public from public;
grant all on schema public to fleet_dagster;
grant usage on schema public to fleet_viewer;
-- of the tables that are there, and of those that Dagster will make
grant select on all tables in schema public to fleet_viewer;
alter default privileges for role fleet_dagster in schema public grant select on tables to fleet_viewer;

\connect mlflow
revoke all on schema public from public;
grant all on schema public to fleet_mlflow;
