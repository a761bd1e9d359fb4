"""What a graph says, as words: for tests of rules and of repairs."""

from pipeline.schema import SceneGraph


def triples(graph: SceneGraph) -> set[tuple[str, str, str]]:
    """(subject, relation, object) of each relation."""
    return {
        (graph.entities[relation.subject].head, relation.text, graph.entities[relation.object].head)
        for relation in graph.relations
    }
