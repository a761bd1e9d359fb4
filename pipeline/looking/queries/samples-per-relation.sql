-- For the 50 relations that captions name most: captions, those with negatives, and two of their positives.
-- reads scene_graphs: key, relations.lemma
-- reads subcaptions: key, positive, negatives.kind
WITH named AS (
    SELECT key, unnest(list_distinct(list_transform(relations, lambda r: r.lemma))) AS relation
    FROM scene_graphs
), rows AS (
    SELECT key, positive, len(negatives) > 0 AS has_negatives, lower(positive) AS words,
           len(list_filter(negatives, lambda n: n.kind = 'relation')) AS relation_negatives
    FROM subcaptions
)
SELECT relation,
       count(*)                                                                  AS captions,
       count(*) FILTER (has_negatives)                                           AS with_negatives,
       sum(relation_negatives)::BIGINT                                           AS relation_negatives,
       min_by(positive, key) FILTER (contains(words, ' ' || relation || ' '))    AS first_example,
       max_by(positive, key) FILTER (contains(words, ' ' || relation || ' '))    AS last_example
FROM named JOIN rows USING (key)
GROUP BY relation
ORDER BY captions DESC, relation
LIMIT 50
