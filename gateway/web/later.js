// later.js: the texts of welcome.js and moderate.js, which the page loads after the first view.

import { chinese } from "./words.js";

const en = {
  fact: { gateway: "Gateway", seq: "Newest message", ack: "Last message stored after", links: "Connections", resumed: "Last resume", pending: "Waiting" },
  exactly: (n, exact) => (exact ? `exactly ${n}` : `${n}, with a gap`),
  welcome: "This room is yours", hello: (name) => `You are ${name}.`, chooseName: "Choose a name",
  invite: "Everybody who opens the link is in the room. Nothing is lost: kill the server, start it again, and both windows continue.",
  copyLink: "Copy link", copied: "Copied", second: "Open a second window", copy: "Copy", terminal: "From a terminal:",
  edit: "Edit", delete: "Delete…", forTime: "For how long", reason: "Reason, which everybody can read",
  times: [["10m", "10 minutes"], ["1h", "1 hour"], ["24h", "1 day"], ["168h", "1 week"], ["", "Until it is undone"]],
  slowTimes: [["10s", "Slow: one message in 10 s"], ["1m", "Slow: one message a minute"], ["0", "Not slow"]],
  deleteTitle: "Delete this message?", deleteText: "Nobody can read it any more, and it cannot be restored.", deleteVerb: "Delete",
  closeRoom: "Close the room…", closeTitle: (room) => `Close ${room}?`, closeText: "Nobody can write here until the room is opened again.", closeVerb: "Close",
  about: {
    mute: { word: "Mute…", title: (name) => `Mute ${name}?`, verb: "Mute" },
    kick: { word: "Remove from the room…", title: (name) => `Remove ${name} from the room?`, text: "They can come back at once.", verb: "Remove" },
    ban: { word: "Ban…", title: (name) => `Ban ${name} from the room?`, verb: "Ban" },
  },
};

const zh = {
  fact: { gateway: "网关", seq: "最新消息", ack: "最近一条存储用时", links: "连接次数", resumed: "最近一次恢复", pending: "等待发送" },
  exactly: (n, exact) => (exact ? `恰好 ${n} 条` : `${n} 条，有缺失`),
  welcome: "这个房间是你的", hello: (name) => `你是${name}。`, chooseName: "取个名字",
  invite: "打开链接的人都会进入这个房间。消息不会丢失：即使服务器被强制结束，重新启动后两个窗口都会继续。",
  copyLink: "复制链接", copied: "已复制", second: "打开第二个窗口", copy: "复制", terminal: "在终端中：",
  edit: "编辑", delete: "删除…", forTime: "时长", reason: "理由（所有人可见）",
  times: [["10m", "10 分钟"], ["1h", "1 小时"], ["24h", "1 天"], ["168h", "1 周"], ["", "直到撤销"]],
  slowTimes: [["10s", "慢速：每 10 秒一条"], ["1m", "慢速：每分钟一条"], ["0", "不限速"]],
  deleteTitle: "删除这条消息？", deleteText: "任何人都无法再看到它，也无法恢复。", deleteVerb: "删除",
  closeRoom: "关闭房间…", closeTitle: (room) => `关闭 ${room}？`, closeText: "重新开放之前，任何人都不能在此发言。", closeVerb: "关闭",
  about: {
    mute: { word: "禁言…", title: (name) => `禁言 ${name}？`, verb: "禁言" },
    kick: { word: "移出房间…", title: (name) => `将 ${name} 移出房间？`, text: "对方可以立即返回。", verb: "移出" },
    ban: { word: "封禁…", title: (name) => `封禁 ${name}？`, verb: "封禁" },
  },
};

export const words = chinese ? zh : en;
