# The champion over REST, in an image of its own that needs neither lake nor MLflow's server nor Spark:
#   fleet export --out build/champion
#   docker build -f deploy/serving.Dockerfile -t fleet-serving:12 .
# A promotion is another image; rolling back is starting the one before.
FROM python:3.11-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home fleet
COPY deploy/serving.lock build/champion/requirements.txt /tmp/
# hash for hash; the second line installs nothing, and fails where the champion asks for another version
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes -r /tmp/serving.lock \
    && pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps -r /tmp/requirements.txt
COPY build/champion /srv/champion
USER 10001
EXPOSE 5001
ENTRYPOINT ["tini", "--"]
CMD ["mlflow", "models", "serve", "--model-uri", "/srv/champion", "--env-manager", "local", "--host", "0.0.0.0", "--port", "5001"]
