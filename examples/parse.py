"""What a caption says: its things, their attributes, how they stand to each other."""

import pipeline

parser = pipeline.CaptionParser()
(graph,) = parser.parse(["a black dog chasing a red ball on a beach"])
for entity in graph.entities:
    print(entity.head, [attribute.text for attribute in entity.attributes])
for relation in graph.relations:
    print(graph.entities[relation.subject].head, relation.text, graph.entities[relation.object].head)
