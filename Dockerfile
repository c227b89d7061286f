# One image for every process of the house: which one it is says the command. See docker-compose.yml.
#
# Not built by any test here (no container engine where the tests run); tests/unit/test_compose.py reads it.
FROM python:3.11-slim

# The account that runs everything. Its number is fixed because the certificates' keys are handed to it by number.
RUN groupadd --gid 10001 zerosum \
    && useradd --uid 10001 --gid zerosum --no-create-home --home-dir /var/lib/zerosum --shell /usr/sbin/nologin zerosum \
    && install -d -o zerosum -g zerosum -m 0700 /var/lib/zerosum

WORKDIR /opt/zerosum

# Exactly the tested versions: the lock constrains what pyproject.toml asks for; linters and test tools stay out.
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY actors actors
COPY buf buf
COPY loadtest loadtest
COPY servers servers
COPY simulator simulator
COPY zerosum zerosum
RUN pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock .

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ZEROSUM_DATA_DIR=/var/lib/zerosum \
    RAY_AUTH_MODE=token \
    RAY_AUTH_TOKEN_PATH=/var/lib/zerosum/keys/ray.token \
    RAY_USAGE_STATS_ENABLED=0

WORKDIR /var/lib/zerosum
USER zerosum
CMD ["zerosum", "--help"]
