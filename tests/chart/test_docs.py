"""The values on the page about deploying are accepted, and do what the page says."""

from __future__ import annotations

import yaml

from tests.support.docs import all_blocks
from tests.support.helm import find, render


def test_values_of_the_page_make_an_installation() -> None:
    (block,) = (block for block in all_blocks("docs/deploying.md", "yaml") if block.file == "values.yaml")
    made = render(yaml.safe_load(block.text))
    (container,) = find(made, "Deployment", "workerjobs-operator")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/workerjobs:0.1.0"
    pool = yaml.safe_load(next(iter(find(made, "ConfigMap", "workerjobs-pool")["data"].values())))
    assert pool["image"] == "registry.example/shop-jobs:7"
    assert pool["drainSeconds"] == 300
    assert {each["metadata"]["namespace"] for each in made if each["kind"] == "RoleBinding"} >= {"shop", "workerjobs"}
