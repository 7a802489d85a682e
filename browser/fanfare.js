// Built from src by go generate. MIT license.
const O=["ws","sse","poll"],M={retry:500,maxRetry:3e4,silence:0,patience:1e4,good:5e3,upgrade:1e4},I=100,E=3e3,C=["open",
"message","error","gap","statechange"],y=()=>globalThis.document,v=()=>y()?.baseURI??globalThis.location?.href,g=()=>performance.
now(),x=a=>typeof a=="function"?a():a,N=a=>a<400||a>499||[408,425,429].includes(a),S=({id:a,gap:t,ready:s,position:e})=>a??
t??s??e,D=async({headers:a,withCredentials:t},s)=>({headers:{Accept:"text/event-stream, */*;q=0.1",...await x(a)},credentials:t?
"include":"same-origin",cache:"no-store",...s}),_=(a,t)=>{try{return t&&sessionStorage.setItem("fanfare "+a,t),sessionStorage.
getItem("fanfare "+a)}catch{}},T={ws(a,{protocols:t},s,{signal:e}){a.protocol=a.protocol.replace("http","ws"),a.searchParams.
set("refusals","close");const i=new WebSocket(a,t??[]);i.onmessage=({data:r})=>{s.send=h=>i.send(h),s.read(r)},i.onclose=
s.done,e.addEventListener("abort",()=>{i.onmessage=i.onclose=null,i.close()})},sse(a,t,s,e){if(t.headers)return T.fetch(
a,t,s,e);const i=new EventSource(a,t);let r;i.onopen=()=>r=!0,i.onmessage=({data:h})=>{r=!1,s.read(h)},i.onerror=()=>{r||=
i.readyState===2,i.close(),r?T.fetch(a,t,s,e):s.done({})},e.signal.addEventListener("abort",()=>i.close())},poll(a,...t){
a.searchParams.set("poll",1),T.fetch(a,...t)},fetch(a,t,s,{signal:e}){(async()=>{const{status:r,headers:h,body:o}=await fetch(
a,await D(t,{signal:e}));if(r!==200||!/^\s*text\/event-stream\s*(;|$)/i.test(h.get("Content-Type"))){const f=h.get("Retr\
y-After");return{status:r,wait:f*1e3||Date.parse(f)-Date.now()||0}}const n=o.pipeThrough(new TextDecoderStream).getReader();
for(let f="",p="",c=0;;){const{value:l,done:u}=await n.read();if(u)return{wait:c,end:u};s.alive();const d=(f+l).split(/\r\n|\n|\r(?!$)/);
f=d.pop();for(const w of d){const[,b,m]=/^([^:]*):? ?(.*)/s.exec(w);b==="data"&&(p+=m+`
`),b==="retry"&&/^\d+$/.test(m)&&(c=+m),!(w||!p||e.aborted)&&(s.read(p.slice(0,-1)),p="")}}})().catch(()=>({})).then(r=>s.
done(r))}};class R extends EventTarget{static CONNECTING=0;static OPEN=1;static CLOSED=2;CONNECTING=0;OPEN=1;CLOSED=2;readyState=0;state="\
connecting";onopen=null;onmessage=null;onerror=null;ongap=null;onstatechange=null;#s;#e;#t={};#h;#u=[];#c;#g=0;#m=0;#y=0;#b=0;#w=0;#M;#f=!1;#i=!1;#n;#d={};#I=new AbortController;constructor(t){
super();const s=Object.fromEntries(Object.entries(t??{}).filter(([,o])=>o!=null));this.#s=t={transports:O,lastEventId:"",
...s,poll:s.sse};for(const o in M)t[o]=Math.max(I,s[o]??NaN)||M[o];const{shared:e,transports:i}=t;for(const o of i)if(!O.
includes(o))throw new TypeError(`fanfare: there is no transport ${o}`);if(e&&typeof e!="string")throw new TypeError("fan\
fare: shared must name the user, such as 'user-17'");if(t.transports=i.filter(o=>t[o]),this.#e=[...t.transports],!this.#e.
length)throw new TypeError("fanfare: ws or sse must be a URL");this.#e.forEach(o=>this.#v(t[o])),this.lastEventId=t.lastEventId,
this.withCredentials=!!t.withCredentials,this.#C(_(this.#E));for(const o of C)this.addEventListener(o,n=>{const f=this["\
on"+o];typeof f=="function"&&f.call(this,n)});const{signal:r}=this.#I,h=(o,n,f)=>o?.addEventListener?.(n,f,{signal:r});h(
globalThis,"online",()=>this.#x()),h(y(),"visibilitychange",()=>{y().hidden?this.#M=g():g()-this.#M<E||this.#x()}),h(globalThis,
"pagehide",()=>this.#_()),h(y(),"freeze",()=>this.#_()),h(globalThis,"pageshow",()=>this.#L()),h(y(),"resume",()=>this.#L()),
queueMicrotask(()=>{r.aborted||(e&&this.#q(),this.#o())})}get url(){return this.#v(this.#s[this.#e[0]??this.#s.transports[0]]).
href}get transport(){const{transport:t,opened:s}=this.#t;return this.#i?"shared":s&&t}close(){this.readyState>1||(this.#n?.
leave(),this.#I.abort(),this.#i=!1,this.#p(),this.#l("closed"))}async send(t){const{post:s}=this.#s,{send:e}=this.#t;if(e)
return e(t);if(!s){if(this.#i)return this.#n.send(t);throw new Error("fanfare: no WebSocket is open, and post is not set")}
const i=await fetch(s,await D(this.#s,{method:"POST",body:t}));if(!i.ok)throw new Error(await i.text()||i.status)}setTopics(t){
this.#s.topics=t,this.#n?.leave();const{opened:s,send:e,transport:i}=this.#t;this.#i||i&&!s?(this.#i=!1,this.#o()):e?e(JSON.
stringify({topics:t})):s&&this.#U(i)}get#E(){return this.#v(this.#s[this.#e[0]]).origin}#v(t){return new URL(typeof t=="\
function"?"":t,typeof t=="function"?v()??"http://localhost":v())}#r(t,s,e){clearTimeout(this.#d[t]),this.#d[t]=setTimeout(
e,Math.min(s,2**31-1))}#a(t,s){this.dispatchEvent(Object.assign(new Event(t),s))}#l(t){[t,"closed"].includes(this.state)||
(this.state=t,this.readyState=["open","closed"].indexOf(t)+1,this.#i||this.#n?.changed(t,this.#w-Date.now()),this.#a("st\
atechange"),t==="open"&&this.#a("open"))}#p(){for(const t in this.#d)clearTimeout(this.#d[t]);this.#t.stop?.(),this.#h?.
stop(),this.#t={},this.#h=null}#C(t){for(;this.#e.includes(t)&&this.#e[0]!==t;)this.#e.push(this.#e.shift())}#N(t,s,e){const{
topics:i,...r}=this.#s,h=new AbortController,{signal:o}=h,n={transport:t,topics:i,started:g(),stop:()=>h.abort()},f=l=>u=>o.
aborted||l(u);n.alive=()=>n.heard=g(),n.done=f(l=>{n.stop(),e(l)}),n.read=f(l=>{n.alive();let u;try{const d=JSON.parse(l);
d.encoding&&(d.bytes=Uint8Array.from(atob(d.data),w=>w.charCodeAt())),("topic"in d||S(d))&&(u=d)}catch{}u?s(u):this.#a("\
error",{data:l})}),n.alive();const p=f(([l,u])=>{l=new URL(l,v());const d=l.searchParams;d.set("heartbeat",1),d.set("env\
elope",1),this.lastEventId&&d.set("lastEventId",this.lastEventId);for(const w of i??[])d.append("topic",w);T[t](l,{...r,
protocols:u},n,h)}),c=()=>setTimeout(n.done,0,{});try{const l=[x(r[t]),t==="ws"&&x(r.protocols)];l.some(u=>u?.then)?Promise.
all(l).then(p).catch(c):p(l)}catch{c()}return n}#o(t){if(t||this.#p(),this.#t.stop?.(),t||this.#l("connecting"),this.readyState>
1||this.#f||this.#i)return;const s=this.#N(this.#e[0],e=>this.#S(e,s),e=>this.#O(e));s.opened=t,s.skip=this.#t.skip,this.#t=
s,this.#T()}get#D(){const{silence:t}=this.#s,s=this.#g,e=t?Math.max(t,1.5*s):s?Math.max(1e4,3*s):45e3;return this.#t.transport===
"poll"?Math.max(e,45e3):e}#T(t=Date.now()){const{opened:s,transport:e,started:i,heard:r}=this.#t,h=this.#D,n=s||e==="pol\
l"?r+h-g():i+this.#s.patience-g();n<=0||Date.now()-t>2*h?this.#O({}):this.#r("watch",Math.min(n,h/3),()=>this.#T(t+Math.
max(0,Math.min(n,h/3))))}#x(){if(y()?.hidden||this.#f)return;if(this.#i)return this.#n.look();const t=this.#t;this.state===
"waiting"&&Date.now()>=this.#w&&this.#o();const s=g();t.opened&&this.#r("look",E,()=>{this.#t.heard<s&&this.#o(t.transport===
"poll"&&t.opened)})}#_(){this.readyState>1||(this.#n?.leave(),this.#f=!0,this.#i=!1,this.#p(),this.#l("waiting"))}#L(){if(!this.#f)
return;this.#f=!1;const t=this.#w-Date.now();t>0?this.#r("connect",t,()=>this.#o()):this.#o()}#S(t,s){const{id:e,topics:i,
position:r,status:h,heartbeat:o}=t;o>0&&(this.#g=o*1e3);const n=S(t);if(s.progress||=n!==this.lastEventId,!(!s.opened&&(s.
opened=g(),this.#R(),this.#l("open"),s!==this.#t))&&!s.skip?.delete(e)){if(e)s.skip=null;else if(s.skip?.size&&n&&!t.gap)
return;i&&r&&(this.#s.topics=s.topics=this.#c=i),this.#n?.received(t),this.#k(t),s===this.#t&&(h?this.#U(this.#s.transports.
find(f=>f!=="ws"),h):i&&r&&this.#n?.enter())}}#R(){const t=this.#t,[s]=this.#s.transports;this.#c=t.topics,this.#T(),this.#A(),
this.#r("good",t.transport===s?this.#s.good:0,()=>_(this.#E,t.transport))}#k(t){const{id:s,topic:e,gap:i,topics:r=null,bytes:h}=t,
o=h??t.data,n=C.includes(t.type)?"message":t.type??"message",f=(p,c)=>this.dispatchEvent(Object.assign(new MessageEvent(
p,{data:o,lastEventId:s??i??"",origin:this.#E}),c));this.lastEventId=S(t)||this.lastEventId,s&&this.#h&&(this.#u.push(s),
this.#h.compare?.(s)),e!=null?f(n,{topic:e}):i&&f("gap",{topics:r})}#O({code:t,reason:s,status:e,wait:i=0,end:r}){const{
transport:h,opened:o,started:n,progress:f,topics:p}=this.#t,{retry:c,maxRetry:l,good:u,transports:d,headers:w}=this.#s,b=g()-
n;if(t===3e3&&s==="unauthorized"&&(e=401),t===3003&&(e=403),h==="poll"&&r&&(f||b>u))return this.#m=this.#y=0,this.#o(o);
this.#p();let m=[204,401,403].includes(e)||/^(10(0[023789]|10)|[34][5-9]..)$/.test(t);o&&b>u&&!m?(this.#m=this.#y=0,h===
d[0]&&(this.#b=0)):this.#c&&p!==this.#c&&(m||!N(e))?(this.#s.topics=this.#c,m=!1):e&&!N(e)&&(!m||h==="ws"&&w&&d[1])?(this.#s.
transports=d.filter(L=>L!==h),this.#e.shift(),m=!this.#e.length):++this.#m>1&&(this.#m=0,this.#e.push(this.#e.shift())),
m?this.close():(t===1013&&(i+=5e3+Math.random()*1e4),this.#w=i>0?Date.now()+i:0,i=Math.max(0,i)+Math.max(I,Math.random()*
Math.min(l,c*2**this.#y++)),this.#l("waiting"),this.state==="waiting"&&!this.#t.stop&&!this.#i&&this.#r("connect",i,()=>this.#o())),
this.#a("error",{code:t,reason:s,status:e})}#A(){const{transports:t,upgrade:s}=this.#s,{transport:e}=this.#t,i=t.slice(0,
Math.max(0,t.indexOf(e)));i.length&&this.#r("upgrade",s*2**Math.min(6,this.#b),()=>{const r=i[this.#b++%i.length];this.#$(
r,()=>this.#A(),!0,r==="sse"&&e==="poll")})}#U(t,s){const e=i=>{this.#s.topics=this.#t.topics,this.#a("error",{status:i.
status??s}),this.#n?.enter()};this.#s.topics===this.#t.topics||!t?e({}):this.#$(t,e)}#$(t,s,e,i){this.#h?.stop(),this.#u=
[];const r=[],h=(c={})=>{n===this.#h&&(n.stop(),this.#h=null,s(c))},o=()=>{if(n===this.#h){this.#t.stop(),this.#h=null,n.
opened=g(),n.skip=new Set(this.#u),this.#t=n,this.#C(t),clearTimeout(this.#d.second),this.#R();for(const c of r)n===this.#t&&
this.#S(c,n);n===this.#t&&(this.#a("statechange"),this.#n?.enter())}},n=this.#h=this.#N(t,c=>{if(n===this.#t)return this.#S(
c,n);if(c.gap&&e)return h();r.push(c),c.heartbeat>0&&(this.#g=c.heartbeat*1e3),i?n.compare():o()},c=>n===this.#t?this.#O(
c):h(c));this.#r("second",i?E:this.#s.patience,h);let f=0;const p=c=>r.some(l=>l.id===c);i&&(n.compare=c=>{r.length===1&&
!c&&this.#r("second",1.5*(this.#g||15e3),h),c&&(setTimeout(()=>f=p(c)?f+1:0,50),setTimeout(()=>p(c)||h(),E)),!(r.length<
2)&&(f>2?o():this.#r("prompt",1e3,()=>this.#u.every(p)&&o()))})}async#q(){const t=()=>this.readyState<2&&!this.#f;try{const{
share:s}=await import("./fanfare-shared.js");if(this.readyState>1)return;this.#n=s({stream:this,options:this.#s,base:v(),
granted:()=>this.#c??this.#s.topics,isOpen:()=>this.state==="open"&&!this.#i&&t(),silence:()=>this.#D,quiet:()=>g()-this.#t.
heard,look:()=>this.#x(),connect:()=>{this.#i=!1,this.#o()},ride:()=>{this.#i=!0,this.#p(),this.#a("statechange")},set:e=>this.#i&&
this.#l(e),dispatch:e=>this.#k(e)}),t()&&this.state==="open"&&this.#n.enter()}catch(s){this.#a("error",{reason:`fanfare:\
 this tab has a connection of its own: ${s}`})}}}export{R as Fanfare};
