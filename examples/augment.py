"""A drawn world, and its captions as counterfactual shards: world/ and cf/ in this folder."""

from pathlib import Path

import pipeline

if __name__ == "__main__":
    pipeline.write_demo_data(Path("world"), pipeline.DemoOptions(num_train=64, num_test_per_class=1))
    source = pipeline.InputOptions(input="world/train")
    print(pipeline.open_source(source).describe())
    manifest = pipeline.run_stages(pipeline.PipelineOptions(source=source, out=Path("cf")))
    print(manifest["rows"]["status"], pipeline.verify(Path("cf")))
