"""The score data that `dreamerv2.common.score_data` reads; installed as `dreamerv2.scores`."""
