update "workerApiAnswers" set answer = %(answer)s where actor = %(actor)s and key = %(key)s
