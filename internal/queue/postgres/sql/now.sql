SELECT hubhook.now_1()
