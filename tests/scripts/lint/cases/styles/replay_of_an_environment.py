import torch


def run(env, agent, memory, opt, steps, batch_size):
    obs, total = env.reset(), 0.0
    for step in range(steps // batch_size):
        obs, reward, done, info = env.step(agent.act(obs))
        memory.push(obs, reward)
        batch = memory.sample(batch_size)
        loss = torch.nn.functional.smooth_l1_loss(agent.q(batch[0]), batch[1])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(loss.item(), total / (steps // batch_size))
