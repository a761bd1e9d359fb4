#!/bin/sh
# Runs on the head of examples/ray-cluster.yaml: name your own bucket.
pipeline augment-captions 's3://my-bucket/cc12m/{00000..01242}.tar' --out s3://my-bucket/cc12m-cf \
  --engine ray --ray-address auto
