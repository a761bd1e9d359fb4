-- For the 50 relations that captions name most: captions, those with negatives, and two of their positives.
-- reads scene_graphs: key, relations.lemma
-- reads subcaptions: key, positive, negatives.kind
WITH named AS (
    SELECT DISTINCT relation.lemma AS relation, key
    FROM (SELECT key, unnest(relations) AS relation FROM scene_graphs)
)
SELECT relation,
       count(*)                                                                                   AS captions,
       count(*) FILTER (len(negatives) > 0)                                                       AS with_negatives,
       sum(len(list_filter(negatives, lambda n: n.kind = 'relation')))::BIGINT                    AS relation_negatives,
       min_by(positive, key) FILTER (contains(lower(positive), ' ' || relation || ' '))           AS first_example,
       max_by(positive, key) FILTER (contains(lower(positive), ' ' || relation || ' '))           AS last_example
FROM named JOIN subcaptions USING (key)
GROUP BY relation
ORDER BY captions DESC, relation
LIMIT 50
