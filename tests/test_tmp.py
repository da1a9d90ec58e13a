import time, logging
from earmark import stages
def test_x(done, tiny, protocol, caplog):
    print((done/"artifacts/detector/history.csv").read_text())
    print((done/"artifacts/evaluation/metrics.json").read_text())
    print(protocol.groupby(["split","key","made"]).size())
    t=time.time(); import shutil; shutil.rmtree(done/"artifacts/detector"); stages.run("train_detector",tiny,done); print("train",time.time()-t)
    t=time.time(); shutil.rmtree(done/"artifacts/scores"); stages.run("score_detector",tiny,done); print("score",time.time()-t)
    t=time.time(); stages.run("evaluate",tiny,done); print("eval",time.time()-t)
    assert 0
