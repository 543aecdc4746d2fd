import numpy as np


def run(env, agent, episodes):
    rewards = []
    for e in range(episodes):
        s = env.reset()
        done = False
        r_sum = 0
        while not done:
            a = agent.act(s)
            s, r, done, _ = env.step(a)
            r_sum += r
        rewards.append(r_sum)
    print(np.mean(rewards))
