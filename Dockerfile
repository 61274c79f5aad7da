# All that regflow needs, as requirements.lock pins it:
#   docker build --tag regflow .
#   apptainer build regflow.sif docker-daemon://regflow:latest
FROM python:3.11-slim-bookworm

# What the wheels leave to the system: GDAL's libexpat, OpenMP for numba; and make for the step below.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libexpat1 libgomp1 make \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/regflow
COPY Makefile Snakefile pyproject.toml requirements.lock setup.py README.md LICENSE ./
COPY config config
COPY envs envs
COPY resources resources
COPY workflow workflow
COPY src src

RUN make install && rm -rf /root/.cache

ENV PATH=/opt/regflow/.venv/bin:$PATH
WORKDIR /work
CMD ["regflow", "--help"]
