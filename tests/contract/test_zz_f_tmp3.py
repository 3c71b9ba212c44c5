import asyncio, time, json
import pytest, redis.asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from tests.contract.test_gateway_hostile import *
from gateway.pump import Pump
class S:
    def flush(self): pass
def test_f_pump_starves():
    async def story():
        pump=Pump(); t=asyncio.create_task(pump.run()); loop=asyncio.get_running_loop(); n=0
        def again():
            nonlocal n; n+=1; pump.add(S()); loop.call_soon(again)   # one answer in every turn of a busy loop
        pump.add(S()); again()
        try:
            async with asyncio.timeout(2): await pump.settled()
            print("PUMP settled after", n)
        except TimeoutError: print("PUMP never settled in 2 s;", n, "turns"); raise
        finally: t.cancel()
    asyncio.run(story())
def test_f_looking(view_redis, tmp_path):
    async def story(line):
        async with connect(line.urls["stream"], compression=None) as s:
            await s.recv()
            async with redis.asyncio.Redis.from_url(view_redis) as c: await c.execute_command("CLIENT","PAUSE","4000","ALL")
            await s.send('{"op":"subscribe","channels":[{"ch":"ticker.NEW-CNY"}]}')
            for i in range(70):
                await s.send('{"op":"ping"}'); await asyncio.sleep(0.04)   # 25 a second, half of what is allowed
            try:
                n=0
                while n<70:
                    m=json.loads(await asyncio.wait_for(s.recv(),8)); n+= m["op"]=="pong"
                print("LOOK ok", n)
            except ConnectionClosed as e: print("LOOK closed", e.rcvd); raise
    run(view_redis, tmp_path, story)
def test_f_verify(view_redis, tmp_path):
    async def story(line):
        from gateway.auth import TokenVerifier
        from gateway.errors import Refusal
        v=TokenVerifier.from_file(line.config.token_public_key)
        tok=line.token("maker"); bad=tok[:-6]+"AAAAAA"
        for name,t in (("good",tok),("bad",bad),("long bad", tok.split(".")[0]+"."+"A"*3900+"."+tok.split(".")[2])):
            t0=time.perf_counter()
            for _ in range(200):
                try: v.verify(t)
                except Refusal as e: msg=e.detail
            print("VERIFY",name,(time.perf_counter()-t0)/200*1e6,"us")
        print("VERIFY", msg)
    run(view_redis, tmp_path, story)
